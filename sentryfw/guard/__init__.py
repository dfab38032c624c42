"""The guard: table, memory and ledger agree while the daemon runs.

guard.py         the one object that the daemon calls
table_guard.py   repairs damage; block_follower.py: unblocks; back_off.py: delays between repairs
reconciler.py    the comparison once a minute, and clock jumps (moment.py)
worker.py        the thread and the table lock: where each part runs, and what it may change

In the thread: table_reader.py, ledger_worker.py (with compare.py and ledger_audit.py, which are
pure), repair.py and restore.py. In memory: block_index.py. never_block.py and
never_block_update.py keep the never-block sources up to date.
"""
