#!/bin/sh
# Starts PostgreSQL as the ordinary user that it is run as: makes the cluster at the first start, gives each service its
# role and its two databases at every start, and only then listens to the network. There is no superuser's password, for
# the superuser can come in through the socket of this container alone.
set -eu
volume=/var/lib/postgresql/data
cluster=$volume/cluster
run=/var/run/postgresql
secrets=/run/aran/postgres

if [ ! -s "$cluster/PG_VERSION" ]; then
	[ ! -e "$cluster" ] || { echo "start: $cluster is there and is no cluster; put it right or move it away" >&2; exit 1; }
	rm -rf "$cluster.new" # of a start that was cut short
	initdb --pgdata="$cluster.new" --username=postgres --encoding=UTF8 --locale=C --data-checksums --auth-local=peer --auth-host=reject
	mv "$cluster.new" "$cluster"
fi

# PostgreSQL wants to own its key.
(umask 077 && cat "$secrets/server.key" > "$run/server.key")
cat "$secrets/server.pem" > "$run/server.pem"

set -- -c "unix_socket_directories=$run" -c hba_file=/etc/aran/pg_hba.conf -c password_encryption=scram-sha-256 \
	-c ssl=on -c "ssl_cert_file=$run/server.pem" -c "ssl_key_file=$run/server.key" -c ssl_min_protocol_version=TLSv1.3

pg_ctl --pgdata="$cluster" --silent --wait --timeout=600 --options="$* -c listen_addresses=" start
while read -r role verifier; do
	psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username=postgres --dbname=postgres --host="$run" \
		--set=role="$role" --set=keys="${role}_keys" --set=verifier="$verifier" --file=/etc/aran/service.sql
done < "$secrets/roles"
pg_ctl --pgdata="$cluster" --silent --wait --mode=fast stop

exec postgres -D "$cluster" "$@" -c 'listen_addresses=*' -c max_connections=200 -c shared_buffers=128MB \
	-c log_connections=off -c log_statement=none -c idle_in_transaction_session_timeout=60s
