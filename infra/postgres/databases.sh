#!/bin/sh
# Makes a role and a database each for MLflow and Prefect; the postgres image runs it once, on an empty volume.
set -eu

psql --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set mlflow_password="${MLFLOW_DB_PASSWORD:?}" --set prefect_password="${PREFECT_DB_PASSWORD:?}" <<'SQL'
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE mlflow OWNER mlflow;
REVOKE CONNECT ON DATABASE mlflow FROM PUBLIC;
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE DATABASE prefect OWNER prefect;
REVOKE CONNECT ON DATABASE prefect FROM PUBLIC;
SQL
