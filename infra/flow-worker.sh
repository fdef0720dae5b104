#!/bin/sh
# Joins Ray as a node without resources, brings pool and deployments up to date, and becomes the Prefect worker.
# Run from the checkout's root, with PREFECT_API_URL and RAY_ADDRESS set; running it again changes nothing.
set -eu

ray start --address="${RAY_ADDRESS:?host:port of the Ray head}" --num-cpus=0 --num-gpus=0 --disable-usage-stats
# Only where there is none: --overwrite would forget its limits.
prefect --no-prompt work-pool inspect bestiary > /dev/null 2>&1 ||
prefect --no-prompt work-pool create bestiary --type process
prefect --no-prompt deploy --all
exec prefect --no-prompt worker start --pool bestiary --with-healthcheck
