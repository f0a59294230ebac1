"""adbeam as a library: what `import adbeam` offers beside settings and bundles."""

from adbeam.library import steps as steps
