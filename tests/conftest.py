"""What all tests share."""

import os

# Two workers on two cores: each with a thread per core, they would wait for each other most of the time. Set before
# torch is imported; processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
