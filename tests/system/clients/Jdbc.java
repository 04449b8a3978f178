// What applications and BI tools do with Connector/J.

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.List;

public class Jdbc {
    static final String TEXT = "it's 'quoted' \\ é 🦀 ?";

    static void same(Object found, Object expected) {
        if (!expected.equals(found)) {
            throw new AssertionError("found " + found + ", not " + expected);
        }
    }

    static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> values = new ArrayList<>();
        while (rows.next()) {
            values.add(rows.getString(name));
        }
        return values;
    }

    /** In text and, with prepared statements of the server, in the binary protocol. */
    static void types(Connection db) throws SQLException {
        try (PreparedStatement insert = db.prepareStatement("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?)")) {
            insert.setInt(1, 1);
            insert.setBoolean(2, true);
            insert.setLong(3, 1L << 40);
            insert.setDouble(4, 0.5);
            insert.setBigDecimal(5, new BigDecimal("12.30"));
            insert.setDate(6, Date.valueOf("2026-11-21"));
            insert.setTimestamp(7, Timestamp.valueOf("2026-11-21 03:04:05"));
            insert.setString(8, TEXT);
            same(insert.executeUpdate(), 1);
            insert.setInt(1, 2);
            for (int at = 2; at <= 8; at++) {
                insert.setNull(at, Types.NULL);
            }
            same(insert.executeUpdate(), 1);
        }
        try (PreparedStatement select = db.prepareStatement("SELECT * FROM t WHERE k = ?")) {
            select.setInt(1, 1);
            try (ResultSet rows = select.executeQuery()) {
                same(rows.next(), true);
                same(rows.getInt("k"), 1);
                same(rows.getBoolean("b"), true);
                same(rows.getLong("g"), 1L << 40);
                same(rows.getDouble("d"), 0.5);
                same(rows.getBigDecimal("m"), new BigDecimal("12.30"));
                same(rows.getDate("a"), Date.valueOf("2026-11-21"));
                same(rows.getTimestamp("z"), Timestamp.valueOf("2026-11-21 03:04:05"));
                same(rows.getString("v"), TEXT);
                same(rows.next(), false);
                ResultSetMetaData meta = rows.getMetaData();
                same(meta.getColumnCount(), 8);
                same(meta.getColumnType(3), Types.BIGINT);
                same(meta.getColumnType(5), Types.DECIMAL);
                same(meta.getColumnType(6), Types.DATE);
                same(meta.getColumnType(7), Types.TIMESTAMP);
            }
            select.setInt(1, 2);
            try (ResultSet rows = select.executeQuery()) {
                same(rows.next(), true);
                for (int at = 2; at <= 8; at++) {
                    same(rows.getObject(at) == null && rows.wasNull(), true);
                }
            }
        }
    }

    /** Decimals are exact, and bytes are what they are. */
    static void values(Connection db) throws SQLException {
        byte[] every = new byte[256];
        for (int at = 0; at < every.length; at++) {
            every[at] = (byte) at;
        }
        try (Statement statement = db.createStatement()) {
            statement.execute("CREATE DATABASE IF NOT EXISTS rawkv");
        }
        try (PreparedStatement insert = db.prepareStatement("INSERT INTO rawkv.default VALUES (?, ?)")) {
            insert.setBytes(1, every);
            insert.setBytes(2, new byte[] {(byte) 0xff, 0, '\'', '\\'});
            same(insert.executeUpdate(), 1);
        }
        try (PreparedStatement select = db.prepareStatement("SELECT v FROM rawkv.default WHERE k = ?")) {
            select.setBytes(1, every);
            try (ResultSet rows = select.executeQuery()) {
                same(rows.next(), true);
                same(java.util.Arrays.equals(rows.getBytes(1), new byte[] {(byte) 0xff, 0, '\'', '\\'}), true);
            }
        }
        try (PreparedStatement select = db.prepareStatement("SELECT ? + 0.2 = 0.3, COUNT(*) FROM t WHERE m = ?")) {
            select.setBigDecimal(1, new BigDecimal("0.1"));
            select.setBigDecimal(2, new BigDecimal("12.30"));
            try (ResultSet rows = select.executeQuery()) {
                rows.next();
                same(rows.getInt(1), 1);
                same(rows.getInt(2), 1);
            }
        }
    }

    static void batches(Connection db) throws SQLException {
        try (PreparedStatement insert = db.prepareStatement("INSERT INTO t (k, v) VALUES (?, ?)")) {
            for (int k = 10; k < 60; k++) {
                insert.setInt(1, k);
                insert.setString(2, "v" + k);
                insert.addBatch();
            }
            same(insert.executeBatch().length, 50);
        }
        try (Statement statement = db.createStatement();
                ResultSet rows = statement.executeQuery("SELECT COUNT(*), SUM(k) FROM t WHERE k >= 10")) {
            rows.next();
            same(rows.getLong(1), 50L);
            same(rows.getLong(2), 1725L);
        }
        // Row by row, instead of all at once.
        try (Statement statement = db.createStatement(ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY)) {
            statement.setFetchSize(Integer.MIN_VALUE);
            try (ResultSet rows = statement.executeQuery("SELECT v FROM t WHERE k >= 10 ORDER BY k")) {
                same(column(rows, "v").size(), 50);
            }
        }
    }

    /** What tools ask to draw a tree of databases, tables and columns. */
    static void metadata(Connection db, String database) throws SQLException {
        DatabaseMetaData meta = db.getMetaData();
        try (ResultSet rows = meta.getCatalogs()) {
            same(column(rows, "TABLE_CAT").contains(database), true);
        }
        try (ResultSet rows = meta.getTables(database, null, "%", new String[] {"TABLE"})) {
            same(column(rows, "TABLE_NAME"), List.of("t"));
        }
        try (ResultSet rows = meta.getColumns(database, null, "t", "%")) {
            same(column(rows, "COLUMN_NAME"), List.of("k", "b", "g", "d", "m", "a", "z", "v"));
        }
        try (ResultSet rows = meta.getPrimaryKeys(database, null, "t")) {
            same(column(rows, "COLUMN_NAME"), List.of());
        }
        try (ResultSet rows = meta.getIndexInfo(database, null, "t", false, false)) {
            same(column(rows, "COLUMN_NAME"), List.of());
        }
    }

    static void errors(Connection db) throws SQLException {
        try (Statement statement = db.createStatement()) {
            statement.executeQuery("SELECT * FROM missing");
            throw new AssertionError("no error");
        } catch (SQLException error) {
            same(error.getErrorCode(), 5502);
            same(error.getSQLState(), "42602");
        }
        db.setAutoCommit(false);
        db.rollback();
        db.setAutoCommit(true);
        db.setReadOnly(true);
        try (Statement statement = db.createStatement()) {
            statement.executeUpdate("INSERT INTO t (k) VALUES (0)");
            throw new AssertionError("written by a reader");
        } catch (SQLException error) {
            db.setReadOnly(false);
        }
        same(db.isValid(5), true);
    }

    public static void main(String[] args) throws Exception {
        int number = 0;
        for (String properties : new String[] {"useServerPrepStmts=true", "rewriteBatchedStatements=true"}) {
            String database = "jdbc" + number++;
            String url = "jdbc:mysql://127.0.0.1:" + args[0] + "/?user=root&useSSL=false&" + properties;
            try (Connection db = DriverManager.getConnection(url)) {
                try (Statement statement = db.createStatement()) {
                    statement.execute("CREATE DATABASE " + database);
                }
                db.setCatalog(database);
                try (Statement statement = db.createStatement()) {
                    statement.execute("CREATE TABLE t (k INT, b BOOLEAN, g BIGINT, d DOUBLE, m DECIMAL(10, 2), a DATE, "
                            + "z DATETIME, v STRING) DUPLICATE KEY(k) DISTRIBUTED BY HASH(k) BUCKETS 2");
                }
                types(db);
                values(db);
                batches(db);
                metadata(db, database);
                errors(db);
            }
        }
        System.out.println("fine");
    }
}
