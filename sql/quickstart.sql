-- A database is loaded, queried, backed up, dropped, restored and compared.
--
-- `holdfast demo` runs this script against a server of its own. To run it against yours, put directories in the place
-- of ${SAMPLE} (where the files of sql/sample lie) and ${REPOSITORY} (any directory outside the data directory):
--
--   sed "s#[$]{SAMPLE}#$PWD/sql/sample#; s#[$]{REPOSITORY}#/tmp/holdfast-repository#" sql/quickstart.sql |
--       mysql -h 127.0.0.1 -P 9030 -u root --table

-- 1. Create: four tables about the flights that left New York City in January 2013.
CREATE DATABASE flights;
USE flights;

CREATE TABLE airlines (
    carrier VARCHAR(2) NOT NULL,
    name VARCHAR(64)
)
DUPLICATE KEY(carrier)
DISTRIBUTED BY HASH(carrier) BUCKETS 1
PROPERTIES("replication_num" = "1");

CREATE TABLE airports (
    faa VARCHAR(3) NOT NULL COMMENT "airport code",
    name VARCHAR(64),
    lat DOUBLE,
    lon DOUBLE,
    alt INT COMMENT "feet",
    tz INT COMMENT "hours from UTC",
    dst VARCHAR(1),
    tzone VARCHAR(32)
)
DUPLICATE KEY(faa)
DISTRIBUTED BY HASH(faa) BUCKETS 1
PROPERTIES("replication_num" = "1");

CREATE TABLE planes (
    tailnum VARCHAR(6) NOT NULL,
    year INT COMMENT "when it was built",
    type VARCHAR(32),
    manufacturer VARCHAR(32),
    model VARCHAR(32),
    engines INT,
    seats INT,
    speed INT,
    engine VARCHAR(16)
)
DUPLICATE KEY(tailnum)
DISTRIBUTED BY HASH(tailnum) BUCKETS 2
PROPERTIES("replication_num" = "1");

-- A table is divided into partitions, here by week, so that each can be backed up and restored alone; the rows of a
-- partition are spread over buckets by the hash of a column.
CREATE TABLE flights (
    flight_date DATE NOT NULL,
    carrier VARCHAR(2) NOT NULL,
    flight INT NOT NULL,
    tailnum VARCHAR(6),
    origin VARCHAR(3),
    dest VARCHAR(3),
    sched_dep_time INT COMMENT "local time: 517 is 5:17",
    dep_time INT COMMENT "NULL if cancelled",
    dep_delay INT COMMENT "minutes",
    sched_arr_time INT,
    arr_time INT,
    arr_delay INT,
    air_time INT COMMENT "minutes",
    distance INT COMMENT "miles",
    time_hour DATETIME COMMENT "UTC"
)
DUPLICATE KEY(flight_date, carrier, flight)
PARTITION BY RANGE(flight_date) (
    PARTITION week1 VALUES LESS THAN ("2013-01-08"),
    PARTITION week2 VALUES LESS THAN ("2013-01-15"),
    PARTITION week3 VALUES LESS THAN ("2013-01-22"),
    PARTITION week4 VALUES LESS THAN ("2013-01-29"),
    PARTITION week5 VALUES LESS THAN ("2013-02-01")
)
DISTRIBUTED BY HASH(flight) BUCKETS 3
PROPERTIES("replication_num" = "1");

-- 2. Load: FILES() reads Parquet and CSV files. When an INSERT is answered, its rows are on the disk.
INSERT INTO airlines SELECT * FROM FILES('path' = '${SAMPLE}/airlines.parquet', 'format' = 'parquet');
INSERT INTO airports SELECT * FROM FILES('path' = '${SAMPLE}/airports.parquet', 'format' = 'parquet');
INSERT INTO planes SELECT * FROM FILES('path' = '${SAMPLE}/planes.parquet', 'format' = 'parquet');
INSERT INTO flights SELECT * FROM FILES('path' = '${SAMPLE}/flights.parquet', 'format' = 'parquet');

-- 3. Query: which airlines left latest?
SELECT a.name, COUNT(*) AS flights, ROUND(AVG(f.dep_delay), 1) AS mean_delay
FROM flights f JOIN airlines a ON f.carrier = a.carrier
GROUP BY a.name
HAVING COUNT(*) > 100
ORDER BY mean_delay DESC
LIMIT 5;

-- Where did people go in the first week?
SELECT p.name AS destination, COUNT(*) AS flights, ROUND(AVG(f.air_time)) AS minutes
FROM flights f JOIN airports p ON f.dest = p.faa
WHERE f.flight_date < '2013-01-08'
GROUP BY p.name
ORDER BY flights DESC, destination
LIMIT 5;

-- What will be compared after the restore.
SELECT COUNT(*) AS row_count, SUM(distance) AS miles, SUM(dep_delay) AS dep_delay, SUM(flight * arr_delay) AS arr_delay,
    COUNT(DISTINCT tailnum) AS planes, MIN(time_hour) AS earliest, MAX(time_hour) AS latest
FROM flights;
SELECT COUNT(*) AS row_count, SUM(alt) AS alt, MAX(lat) AS north, MIN(lon) AS west, MAX(name) AS name FROM airports;
SELECT COUNT(*) AS row_count, SUM(seats) AS seats, SUM(year) AS years, COUNT(DISTINCT model) AS models FROM planes;
SELECT carrier, name FROM airlines ORDER BY carrier;

-- 4. Back up: a repository is a named place for snapshots. BACKUP runs as a job; "wait" makes the statement return
-- when the job has ended.
CREATE REPOSITORY demo WITH BROKER ON LOCATION "file://${REPOSITORY}";
BACKUP SNAPSHOT flights.first TO demo PROPERTIES("wait" = "true");
SHOW BACKUP FROM flights\G
SHOW SNAPSHOT ON demo;

-- 5. Lose everything.
DROP DATABASE flights FORCE;

-- 6. Restore. StarRocks wants the snapshot's timestamp, as SHOW SNAPSHOT prints it; "latest" stands for the newest.
RESTORE SNAPSHOT flights.first FROM demo PROPERTIES("backup_timestamp" = "latest", "wait" = "true");
SHOW RESTORE FROM flights\G
USE flights;

-- 7. Compare: the same SELECTs as before. `holdfast demo` fails if a result differs.
SELECT COUNT(*) AS row_count, SUM(distance) AS miles, SUM(dep_delay) AS dep_delay, SUM(flight * arr_delay) AS arr_delay,
    COUNT(DISTINCT tailnum) AS planes, MIN(time_hour) AS earliest, MAX(time_hour) AS latest
FROM flights;
SELECT COUNT(*) AS row_count, SUM(alt) AS alt, MAX(lat) AS north, MIN(lon) AS west, MAX(name) AS name FROM airports;
SELECT COUNT(*) AS row_count, SUM(seats) AS seats, SUM(year) AS years, COUNT(DISTINCT model) AS models FROM planes;
SELECT carrier, name FROM airlines ORDER BY carrier;
