"""``python -m fedconv``."""

import sys

from fedconv.cli import main

sys.exit(main())
