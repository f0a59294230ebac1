#!/usr/bin/env bash
# The HTTP interface by curl: examples/curl.sh [URL]
# It needs an endpoint: adbeam serve --config serving/ads.yaml --work-dir runs/examples
set -euo pipefail
url=${1:-http://127.0.0.1:8000}

echo "ads for a visitor with an inline history"
curl --silent --show-error --fail "$url/v1/ads" --header 'Content-Type: application/json' --data '{
  "history": [{"item_id": "A4", "timestamp": 1742800000000}, {"item_id": "A8", "timestamp": 1742900000000}],
  "count": 3, "scene": "home", "deadline_ms": 1000, "request_id": "curl-1"}'
echo

echo "what came of them: counted once, and the visitor's history from now on"
curl --silent --show-error --fail "$url/v1/events" --header 'Content-Type: application/json' --data '{"events": [
  {"event_id": "curl-1-a", "request_id": "curl-1", "user_id": "curl-visitor", "timestamp": 1743000000000,
   "item_id": "A4", "item_kind": "ad", "scene": "home", "action": "conversion", "price": 14.0}]}'
echo

echo "ads for that visitor, none of advertiser 'maker 1'"
curl --silent --show-error --fail "$url/v1/ads" --header 'Content-Type: application/json' --data '{
  "user_id": "curl-visitor", "count": 2, "deadline_ms": 1000, "filters": {"blocked_advertisers": ["maker 1"]}}'
echo

echo "a request with a wrong field is refused by its name"
curl --silent --show-error "$url/v1/ads" --header 'Content-Type: application/json' --data '{"count": 0, "colour": "red"}'
echo

echo "how the replica is"
curl --silent --show-error --fail "$url/v1/status"
echo
