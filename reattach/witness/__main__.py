import sys

from reattach.witness.main import main

sys.exit(main())
