import sys

from reattach.storage_controller.main import main

sys.exit(main())
