#!/usr/bin/env bash
# A bid request in OpenRTB 2.6: examples/openrtb.sh [URL]
# 200 with bids where the bundle knows what a thousand impressions are worth (docs/money.md), else 204: no bid.
set -euo pipefail
url=${1:-http://127.0.0.1:8000}

curl --silent --show-error --fail --include "$url/v1/openrtb" --header 'Content-Type: application/json' --data '{
  "id": "auction-1", "tmax": 1000, "cur": ["USD"], "at": 1,
  "imp": [{"id": "1", "native": {"request": "{}"}, "bidfloor": 0.01, "bidfloorcur": "USD"},
          {"id": "2", "native": {"request": "{}"}}],
  "user": {"id": "v4"},
  "bcat": ["IAB25"], "badv": ["maker 2"]}'
echo
