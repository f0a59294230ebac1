"""Ray job: judge the bundle in force. `ray job submit --working-dir . -- python jobs/evaluate.py -c FILE`"""

import sys

from adbeam.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    main()
