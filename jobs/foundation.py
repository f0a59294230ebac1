"""Ray job: train the foundation. `ray job submit --working-dir . -- python jobs/foundation.py -c FILE`"""

import sys

from adbeam.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "foundation")
    main()
