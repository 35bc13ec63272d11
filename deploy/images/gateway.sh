#!/bin/sh
# Starts the gateway of deploy/images/Dockerfile: fills in its three addresses, and hands over to nginx.
set -eu
port='[0-9]+'
address='(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]+'
fits() {  # fits NAME VALUE PATTERN: nothing but an address gets into the configuration
  printf '%s\n' "$2" | grep -qxE "$3" || { echo "$1: found '$2', expected like $4" >&2; exit 2; }
}
fits POLYWARD_GATEWAY_LISTEN "$POLYWARD_GATEWAY_LISTEN" "$port" 8443
fits POLYWARD_GATEWAY_FLEET "$POLYWARD_GATEWAY_FLEET" "$address" hub:8443
fits POLYWARD_GATEWAY_CONTROL "$POLYWARD_GATEWAY_CONTROL" "$address" hub:8444
resolver=$(awk '$1 == "nameserver" { print ($2 ~ /:/) ? "[" $2 "]" : $2; exit }' /etc/resolv.conf)
sed -e "s|@LISTEN@|$POLYWARD_GATEWAY_LISTEN|" -e "s|@FLEET@|$POLYWARD_GATEWAY_FLEET|" \
  -e "s|@CONTROL@|$POLYWARD_GATEWAY_CONTROL|" -e "s|@RESOLVER@|${resolver:-127.0.0.1}|" \
  /usr/share/polyward/gateway.conf.in >/tmp/gateway.conf
exec nginx -e stderr -c /tmp/gateway.conf "$@"
