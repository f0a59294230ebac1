"""Ray job: give the catalogue semantic IDs. `ray job submit --working-dir . -- python jobs/tokenize_ads.py -c FILE`

Not named tokenize.py: beside the other jobs that name would hide the standard library's module of the same name.
"""

import sys

from adbeam.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "tokenize")
    main()
