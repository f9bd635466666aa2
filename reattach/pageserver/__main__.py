import sys

from reattach.pageserver.main import main

sys.exit(main())
