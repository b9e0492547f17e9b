"""No test may reach the Hub or record anything: set before any library reads it."""

import os

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", GRADIO_ANALYTICS_ENABLED="False")
# The files of tests run beside one another, and threads that wait for a core by spinning would slow both down.
os.environ["OMP_NUM_THREADS"] = "1"
