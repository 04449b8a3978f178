-- Azure Blob Storage and Data Lake Storage: a repository, a backup into it, and a restore from it.
--
-- Put what is yours in the place of all that stands in angle brackets, then run it:
--
--   mysql -h 127.0.0.1 -P 9030 -u root --table < sql/azure.sql
--
-- Instead of azure.adls2.shared_key there may be azure.adls2.sas_token.

CREATE REPOSITORY azure_repository WITH BROKER ON LOCATION "abfss://<container>@<account>.dfs.core.windows.net/<folder>"
PROPERTIES (
    "azure.adls2.shared_key" = "<shared key>"
);

CREATE DATABASE azure_example;
CREATE TABLE azure_example.numbers (k INT, name VARCHAR(10)) DUPLICATE KEY(k);
INSERT INTO azure_example.numbers VALUES (1, "one"), (2, "two"), (3, "three");

BACKUP SNAPSHOT azure_example.first TO azure_repository PROPERTIES ("wait" = "true");
SHOW BACKUP FROM azure_example;
SHOW SNAPSHOT ON azure_repository;

-- The database is lost, and comes back.
DROP DATABASE azure_example FORCE;
RESTORE SNAPSHOT azure_example.first FROM azure_repository PROPERTIES ("backup_timestamp" = "latest", "wait" = "true");
SHOW RESTORE FROM azure_example;
SELECT COUNT(*), SUM(k) FROM azure_example.numbers;
