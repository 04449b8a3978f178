# What applications do with mysql-connector-python, in pure Python and with its C extension.
import datetime
import decimal
import sys

import mysql.connector
from mysql.connector import errorcode

row = (1, True, 2**40, 0.5, decimal.Decimal("12.30"), datetime.date(2026, 11, 21),
       datetime.datetime(2026, 11, 21, 3, 4, 5), "it's 'quoted' \\ é 🦀 %s")
for pure in (True, False):
    db = mysql.connector.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root", use_pure=pure)
    assert db.is_connected()
    cursor = db.cursor()
    name = f"connector_{pure}".lower()
    cursor.execute(f"CREATE DATABASE {name}")
    db.database = name
    assert db.database == name
    cursor.execute("""CREATE TABLE t (k INT, b BOOLEAN, g BIGINT, d DOUBLE, m DECIMAL(10, 2), a DATE, z DATETIME,
        v STRING) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 2""")
    cursor.execute("INSERT INTO t VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", row)
    assert cursor.rowcount == 1
    # The driver makes one INSERT of these.
    cursor.executemany("INSERT INTO t (k, v) VALUES (%s, %s)", [(n, None) for n in range(2, 53)])
    assert cursor.rowcount == 51
    db.commit()
    cursor.execute("SELECT * FROM t WHERE k < 3 ORDER BY k")
    assert cursor.fetchall() == [row, (2,) + (None,) * 7]
    assert cursor.column_names == ("k", "b", "g", "d", "m", "a", "z", "v")
    with db.cursor(dictionary=True, buffered=True) as records:
        records.execute("SELECT COUNT(*) AS n, SUM(k) AS s FROM t")
        assert records.fetchone() == {"n": 52, "s": 52 * 53 // 2}
    # The binary protocol.
    with db.cursor(prepared=True) as prepared:
        for k in (1, 2):
            prepared.execute("SELECT * FROM t WHERE k = ?", (k,))
            (found,) = prepared.fetchall()
            assert found == (row if k == 1 else (2,) + (None,) * 7), found
        prepared.execute("INSERT INTO t (k, d, m, a, z, v) VALUES (?, ?, ?, ?, ?, ?)",
                         (100, 1.25, decimal.Decimal("-0.01"), row[5], row[6], row[7]))
        assert prepared.rowcount == 1
    cursor.execute("SELECT d, m, a, z, v FROM t WHERE k = 100")
    assert cursor.fetchall() == [(1.25, decimal.Decimal("-0.01"), row[5], row[6], row[7])]
    # Decimals are exact, and bytes are what they are, in both protocols.
    cursor.execute("CREATE TABLE exact (d DECIMAL(20, 10)) DUPLICATE KEY(d)")
    cursor.execute("INSERT INTO exact VALUES (0.1), (0.3)")
    cursor.execute("CREATE DATABASE IF NOT EXISTS rawkv")
    every = bytes(range(256))
    for prepared in (True, False):
        with db.cursor(prepared=prepared) as other:
            other.execute("SELECT COUNT(*) FROM exact WHERE d = %s", (decimal.Decimal("0.1"),))
            assert other.fetchall() == [(1,)]
            other.execute("SELECT %s + 0.2 = 0.3", (decimal.Decimal("1E-1"),))
            assert other.fetchall() == [(1,)]
            other.execute("DELETE FROM rawkv.default WHERE k >= ''")
            other.execute("INSERT INTO rawkv.default VALUES (%s, %s)", (every, b"\xff'\x00\\"))
            other.execute("SELECT k, v FROM rawkv.default WHERE k = %s", (every,))
            assert [tuple(map(bytes, row)) for row in other.fetchall()] == [(every, b"\xff'\x00\\")]
    try:
        cursor.execute("SELECT * FROM missing")
        raise AssertionError("no error")
    except mysql.connector.Error as error:
        assert (error.errno, error.sqlstate) == (5502, "42602"), error
    try:
        mysql.connector.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root", password="wrong", use_pure=pure)
        raise AssertionError("no error")
    except mysql.connector.Error as error:
        assert error.errno == errorcode.ER_ACCESS_DENIED_ERROR, error
    db.start_transaction()
    db.rollback()
    db.cmd_reset_connection()
    db.ping(reconnect=False)
    db.close()
print("fine")
