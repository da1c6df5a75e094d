"""`trial_stages` on the path, as a user's own stages are."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
