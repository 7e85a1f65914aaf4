"""Asks another engine about the sealed part of a store; answers as JSON on stdout.

    ask.py document STORE FILE    every query of the Markdown FILE, run by DuckDB: {heading: [row, ...]}
    ask.py duckdb STORE           samples by function, revision and hour: [[function, revision, hour, samples], ...]
    ask.py clickhouse STORE       the same, by ClickHouse (chdb)
    ask.py spark STORE            the same, by Spark

The engines read the files as they lie there; nothing of fnscope is used.
"""

import json
import os
import re
import sys


def document(text):
    """Headings with their blocks of SQL; what stands above the first heading of level two runs before all."""
    heading, blocks = "", []
    for part in re.finditer(r"^## ([^\n]+)$|^```sql\n(.*?)^```$", text, re.M | re.S):
        if part[1]:
            heading = part[1].strip()
        else:
            blocks.append((heading, part[2].strip().rstrip(";")))
    return blocks


def ask_document(path):
    import duckdb

    connection = duckdb.connect()
    answers = {}
    for heading, sql in document(open(path).read()):
        if not heading:
            connection.execute(sql)
            continue
        assert heading not in answers, f"{heading}: one query a heading"
        rows = connection.execute(f"SELECT CAST(to_json(answer) AS VARCHAR) FROM ({sql}) AS answer").fetchall()
        answers[heading] = [json.loads(row) for (row,) in rows]
    return answers


TOTALS = """
    SELECT function, revision, {hour} AS hour, sum({count}) AS samples
    FROM {table} GROUP BY function, revision, {hour} ORDER BY function, revision, hour
"""


def ask_duckdb():
    import duckdb

    table = "read_parquet('samples/*/*/*.parquet')"
    sql = TOTALS.format(table=table, hour="epoch_us(time) // 3600000000", count="count")
    return [list(row) for row in duckdb.sql(sql).fetchall()]


def ask_clickhouse():
    import chdb

    table = "file('samples/*/*/*.parquet', Parquet)"
    sql = TOTALS.format(table=table, hour="intDiv(toUnixTimestamp(time), 3600)", count="`count`")
    lines = str(chdb.query(sql, "JSONCompactEachRow")).splitlines()
    return [[row[0], row[1], int(row[2]), int(row[3])] for row in map(json.loads, lines)]


def ask_spark():
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.session.timeZone", "UTC").config("spark.log.level", "ERROR")
    spark = builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
    spark.read.parquet("samples").createOrReplaceTempView("samples")
    sql = TOTALS.format(table="samples", hour="unix_micros(time) div 3600000000", count="`count`")
    rows = [[row[0], row[1], int(row[2]), int(row[3])] for row in spark.sql(sql).collect()]
    spark.stop()
    return rows


def main():
    what, store, *files = sys.argv[1:]
    files = [os.path.abspath(file) for file in files]
    os.chdir(store)
    asks = {"document": ask_document, "duckdb": ask_duckdb, "clickhouse": ask_clickhouse, "spark": ask_spark}
    answer = asks[what](*files)
    json.dump(answer, sys.stdout)


main()
