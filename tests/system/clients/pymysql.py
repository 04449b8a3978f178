# What applications do with PyMySQL: placeholders, types, many statements, errors.
import datetime, decimal, sys
import pymysql

def connect(**more):
    return pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root", **more)

db = connect(autocommit=True)
cursor = db.cursor()
cursor.execute("CREATE DATABASE py")
cursor.execute("USE py")
cursor.execute("""CREATE TABLE t (k INT, b BOOLEAN, g BIGINT, d DOUBLE, m DECIMAL(10, 2), a DATE, z DATETIME, v STRING)
    DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 2""")
row = (1, True, 2**40, 0.5, decimal.Decimal("12.30"), datetime.date(2026, 11, 21),
       datetime.datetime(2026, 11, 21, 3, 4, 5), "it's 'quoted' \\ é 🦀 %s")
assert cursor.execute("INSERT INTO t VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", row) == 1
assert cursor.execute("INSERT INTO t (k) VALUES (%s)", (2,)) == 1
assert cursor.executemany("INSERT INTO t (k, v) VALUES (%s, %s)", [(n, None) for n in range(3, 53)]) == 50
cursor.execute("SELECT * FROM t WHERE k < 3 ORDER BY k")
rows = cursor.fetchall()
assert rows == (row, (2,) + (None,) * 7), rows
assert [column[0] for column in cursor.description] == ["k", "b", "g", "d", "m", "a", "z", "v"]
cursor.execute("SELECT COUNT(*) AS n, SUM(k) FROM t")
assert cursor.fetchone() == (52, 52 * 53 // 2)

try:
    cursor.execute("SELECT * FROM missing")
    raise AssertionError("no error")
except pymysql.MySQLError as error:
    assert error.args == (5502, "Unknown table 'py.missing'"), error.args
db.ping(reconnect=False)
db.begin(); db.rollback(); db.commit()

many = connect(client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS, database="py")
with many.cursor() as cursor:
    cursor.execute("SELECT 1; SELECT 2; SELECT 3")
    seen = [cursor.fetchone()]
    while cursor.nextset():
        seen.append(cursor.fetchone())
    assert seen == [(1,), (2,), (3,)], seen
streamed = connect(database="py", cursorclass=pymysql.cursors.SSDictCursor)
with streamed.cursor() as cursor:
    cursor.execute("SELECT k FROM t ORDER BY k")
    assert [row["k"] for row in cursor] == list(range(1, 53))
# Bytes are written between quotes as they are, with _binary before them or not.
every = bytes(range(256))
streamed.cursor().execute("CREATE DATABASE IF NOT EXISTS rawkv")
for prefix in (True, False):
    raw = connect(database="rawkv", binary_prefix=prefix)
    with raw.cursor() as cursor:
        rows = [(every + b"1", every), (b"text", b"'quoted' \\\xff"), ("é".encode(), b"")]
        assert cursor.executemany("INSERT INTO `default` VALUES (%s, %s)", rows) == 3
        cursor.execute("SELECT v FROM `default` WHERE k = %s", (every + b"1",))
        assert cursor.fetchall() == ((every,),)
        cursor.execute("SELECT k, v FROM `default`")
        assert cursor.fetchall() == tuple(sorted(rows)), cursor.fetchall()
        try:
            cursor.execute("INSERT INTO py.t (k, v) VALUES (100, %s)", (b"\xff",))
            raise AssertionError("no error")
        except pymysql.MySQLError as error:
            assert error.args[0] == 1366, error.args
print("fine")
