-- HDFS with simple authentication: a repository, a backup into it, and a restore from it.
--
-- Put what is yours in the place of all that stands in angle brackets, then run it:
--
--   mysql -h 127.0.0.1 -P 9030 -u root --table < sql/hdfs.sql
--
-- A name node is for example namenode.example.com:8020.

CREATE REPOSITORY hdfs_repository WITH BROKER ON LOCATION "hdfs://<name node>/<folder>"
PROPERTIES (
    "username" = "<user>"
);

CREATE DATABASE hdfs_example;
CREATE TABLE hdfs_example.numbers (k INT, name VARCHAR(10)) DUPLICATE KEY(k);
INSERT INTO hdfs_example.numbers VALUES (1, "one"), (2, "two"), (3, "three");

BACKUP SNAPSHOT hdfs_example.first TO hdfs_repository PROPERTIES ("wait" = "true");
SHOW BACKUP FROM hdfs_example;
SHOW SNAPSHOT ON hdfs_repository;

-- The database is lost, and comes back.
DROP DATABASE hdfs_example FORCE;
RESTORE SNAPSHOT hdfs_example.first FROM hdfs_repository PROPERTIES ("backup_timestamp" = "latest", "wait" = "true");
SHOW RESTORE FROM hdfs_example;
SELECT COUNT(*), SUM(k) FROM hdfs_example.numbers;
