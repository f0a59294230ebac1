"""Ray job: candidate lists with rewards. `ray job submit --working-dir . -- python jobs/generate_lists.py -c FILE`"""

import sys

from adbeam.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "generate-lists")
    main()
