import sys

from reattach.import_bucket.main import main

sys.exit(main())
