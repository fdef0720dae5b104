"""MLflow: runs filled from their metrics files, generators packaged, registered and found again."""

import os

# Read by MLflow when it is imported, and this package is the only one that imports it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # its notes on its own tables would break the progress bar
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 7 by default: minutes, in which a bar stands still
