"""Ray job: make a bundle of what was trained. `ray job submit --working-dir . -- python jobs/export.py -c FILE`"""

import sys

from adbeam.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "export")
    main()
