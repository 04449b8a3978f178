-- Amazon S3, or a server that speaks like it: a repository, a backup into it, and a restore from it.
--
-- Put what is yours in the place of all that stands in angle brackets, then run it:
--
--   mysql -h 127.0.0.1 -P 9030 -u root --table < sql/s3.sql
--
-- An endpoint is for example https://s3.eu-west-1.amazonaws.com or http://10.0.0.1:9000.

CREATE REPOSITORY s3_repository WITH BROKER ON LOCATION "s3://<bucket>/<folder>"
PROPERTIES (
    "aws.s3.access_key" = "<access key>",
    "aws.s3.secret_key" = "<secret key>",
    "aws.s3.endpoint" = "<endpoint>",
    "aws.s3.region" = "<region>"
);

CREATE DATABASE s3_example;
CREATE TABLE s3_example.numbers (k INT, name VARCHAR(10)) DUPLICATE KEY(k);
INSERT INTO s3_example.numbers VALUES (1, "one"), (2, "two"), (3, "three");

BACKUP SNAPSHOT s3_example.first TO s3_repository PROPERTIES ("wait" = "true");
SHOW BACKUP FROM s3_example;
SHOW SNAPSHOT ON s3_repository;

-- The database is lost, and comes back.
DROP DATABASE s3_example FORCE;
RESTORE SNAPSHOT s3_example.first FROM s3_repository PROPERTIES ("backup_timestamp" = "latest", "wait" = "true");
SHOW RESTORE FROM s3_example;
SELECT COUNT(*), SUM(k) FROM s3_example.numbers;
