import sys

from reattach.witness.s3.main import main

sys.exit(main())
