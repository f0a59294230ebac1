"""Ray job: train LazyAR. `ray job submit --working-dir . -- python jobs/train.py --config jobs/train.yaml`

Submitted again with the same configuration it goes on from its last checkpoint.
"""

import sys

from adbeam.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
