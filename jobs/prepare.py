"""Ray job: prepare an ad log. `ray job submit --working-dir . -- python jobs/prepare.py --config jobs/prepare.yaml`"""

import sys

from adbeam.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "prepare")
    main()
