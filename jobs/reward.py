"""Ray job: train the reward model. `ray job submit --working-dir . -- python jobs/reward.py -c FILE`"""

import sys

from adbeam.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "reward")
    main()
