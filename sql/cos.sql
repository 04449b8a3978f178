-- Tencent COS: a repository, a backup into it, and a restore from it.
--
-- Put what is yours in the place of all that stands in angle brackets, then run it:
--
--   mysql -h 127.0.0.1 -P 9030 -u root --table < sql/cos.sql
--
-- A bucket is for example backups-1250000000, a region ap-guangzhou.

CREATE REPOSITORY cos_repository WITH BROKER ON LOCATION "cosn://<bucket>/<folder>"
PROPERTIES (
    "fs.cosn.userinfo.secretId" = "<secret id>",
    "fs.cosn.userinfo.secretKey" = "<secret key>",
    "fs.cosn.bucket.endpoint_suffix" = "cos.<region>.myqcloud.com"
);

CREATE DATABASE cos_example;
CREATE TABLE cos_example.numbers (k INT, name VARCHAR(10)) DUPLICATE KEY(k);
INSERT INTO cos_example.numbers VALUES (1, "one"), (2, "two"), (3, "three");

BACKUP SNAPSHOT cos_example.first TO cos_repository PROPERTIES ("wait" = "true");
SHOW BACKUP FROM cos_example;
SHOW SNAPSHOT ON cos_repository;

-- The database is lost, and comes back.
DROP DATABASE cos_example FORCE;
RESTORE SNAPSHOT cos_example.first FROM cos_repository PROPERTIES ("backup_timestamp" = "latest", "wait" = "true");
SHOW RESTORE FROM cos_example;
SELECT COUNT(*), SUM(k) FROM cos_example.numbers;
