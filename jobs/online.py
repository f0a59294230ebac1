"""Ray job: rounds of the online loop over the logs that serving has written since the last one.

`ray job submit --working-dir . -- python jobs/online.py --config jobs/online.yaml`. A repeat finishes the round that a
killed one began.
"""

import sys

from adbeam.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "online")
    main()
