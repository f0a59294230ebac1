"""Ray job: represent users and items. `ray job submit --working-dir . -- python jobs/represent.py -c FILE`"""

import sys

from adbeam.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "represent")
    main()
