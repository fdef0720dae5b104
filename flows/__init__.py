"""Prefect's door into the DAG of dvc.yaml."""
