import sys

from reattach.fast_import.main import main

sys.exit(main())
