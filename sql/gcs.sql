-- Google Cloud Storage: a repository, a backup into it, and a restore from it.
--
-- Put what is yours in the place of all that stands in angle brackets, then run it:
--
--   mysql -h 127.0.0.1 -P 9030 -u root --table < sql/gcs.sql
--
-- All three properties are in the JSON file of the service account's key. The private key may stand here as it does
-- there: -----BEGIN PRIVATE KEY-----\nMIIE...

CREATE REPOSITORY gcs_repository WITH BROKER ON LOCATION "gs://<bucket>/<folder>"
PROPERTIES (
    "gcp.gcs.service_account_email" = "<service account>",
    "gcp.gcs.service_account_private_key_id" = "<private key id>",
    "gcp.gcs.service_account_private_key" = "<private key>"
);

CREATE DATABASE gcs_example;
CREATE TABLE gcs_example.numbers (k INT, name VARCHAR(10)) DUPLICATE KEY(k);
INSERT INTO gcs_example.numbers VALUES (1, "one"), (2, "two"), (3, "three");

BACKUP SNAPSHOT gcs_example.first TO gcs_repository PROPERTIES ("wait" = "true");
SHOW BACKUP FROM gcs_example;
SHOW SNAPSHOT ON gcs_repository;

-- The database is lost, and comes back.
DROP DATABASE gcs_example FORCE;
RESTORE SNAPSHOT gcs_example.first FROM gcs_repository PROPERTIES ("backup_timestamp" = "latest", "wait" = "true");
SHOW RESTORE FROM gcs_example;
SELECT COUNT(*), SUM(k) FROM gcs_example.numbers;
