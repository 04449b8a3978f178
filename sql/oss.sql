-- Aliyun OSS: a repository, a backup into it, and a restore from it.
--
-- Put what is yours in the place of all that stands in angle brackets, then run it:
--
--   mysql -h 127.0.0.1 -P 9030 -u root --table < sql/oss.sql
--
-- A region is for example cn-hangzhou.

CREATE REPOSITORY oss_repository WITH BROKER ON LOCATION "oss://<bucket>/<folder>"
PROPERTIES (
    "fs.oss.accessKeyId" = "<access key>",
    "fs.oss.accessKeySecret" = "<secret key>",
    "fs.oss.endpoint" = "oss-<region>.aliyuncs.com"
);

CREATE DATABASE oss_example;
CREATE TABLE oss_example.numbers (k INT, name VARCHAR(10)) DUPLICATE KEY(k);
INSERT INTO oss_example.numbers VALUES (1, "one"), (2, "two"), (3, "three");

BACKUP SNAPSHOT oss_example.first TO oss_repository PROPERTIES ("wait" = "true");
SHOW BACKUP FROM oss_example;
SHOW SNAPSHOT ON oss_repository;

-- The database is lost, and comes back.
DROP DATABASE oss_example FORCE;
RESTORE SNAPSHOT oss_example.first FROM oss_repository PROPERTIES ("backup_timestamp" = "latest", "wait" = "true");
SHOW RESTORE FROM oss_example;
SELECT COUNT(*), SUM(k) FROM oss_example.numbers;
