#!/bin/sh
# The first steps of a hub's coordinator, each done once: the hub, a person for its dashboard, three invitations.
set -eu

if [ "$(id -u)" = 0 ]; then  # a new volume is root's: it is handed over, and this goes on as its new owner
  chown "$OWNER" /hub /invitations/*
  exec setpriv --reuid "${OWNER%:*}" --regid "${OWNER#*:}" --clear-groups --bounding-set -all sh "$0"
fi

umask 077
[ -e /hub/hub.toml ] || polyward-hub init /hub --name "polyward demo" --host hub --gateway gateway:443

password=/hub/secrets/demo  # mode 0600, and in no log
[ -s $password ] || python -c 'import secrets; print(secrets.token_urlsafe(15))' > $password
polyward-hub user list /hub | grep -qw demo || polyward-hub user add /hub demo --role admin --password-stdin < $password

for site in north south east; do
  [ -e /invitations/$site/file ] ||
    polyward-hub invite /hub $site --pre-approved --hours 720 --output /invitations/$site/file
done
