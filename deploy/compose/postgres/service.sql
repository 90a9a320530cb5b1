-- What one service has in PostgreSQL: a role, a database for its records and one for its keys. Other roles cannot connect
-- to them. May be run again at any time. Variables: role, keys (the name of the second database), verifier (of the password).
SELECT format('CREATE ROLE %I', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 40 PASSWORD :'verifier';

SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8'' LOCALE ''C''', name, :'role')
FROM (VALUES (:'role'), (:'keys')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec

REVOKE ALL ON DATABASE :"role" FROM PUBLIC;
REVOKE ALL ON DATABASE :"keys" FROM PUBLIC;
REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
