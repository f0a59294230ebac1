"""adbeam: generative ad recommendation, trained on Ray and served with beams that follow the load."""

import sys

from adbeam.imports.moved import MovedModules

sys.meta_path.append(MovedModules())
