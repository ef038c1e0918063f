BEGIN TRANSACTION;
CREATE TABLE entries (
        n INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('reserved', 'settled')),
        cohort TEXT NOT NULL, plan TEXT NOT NULL, run TEXT NOT NULL, round INTEGER NOT NULL,
        noise REAL NOT NULL, sample_rate REAL NOT NULL, steps INTEGER NOT NULL, settles INTEGER,
        previous TEXT NOT NULL, hash TEXT NOT NULL);
INSERT INTO "entries" VALUES(1,'2026-11-25T11:31:07.762+00:00','reserved','cc740c0404dd22b284fe0523b80e9c5a0a0957d23e8a6ed9378eac41157140cd','pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp','r1',1,1.0,0.5,4,NULL,'0000000000000000000000000000000000000000000000000000000000000000','c439f71b6841161351b427fb1abfe0f12946541df60889349c5bb53af75bbea2');
INSERT INTO "entries" VALUES(2,'2026-11-25T11:31:07.763+00:00','settled','cc740c0404dd22b284fe0523b80e9c5a0a0957d23e8a6ed9378eac41157140cd','pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp','r1',1,1.0,0.5,3,1,'c439f71b6841161351b427fb1abfe0f12946541df60889349c5bb53af75bbea2','182433759ab18daf64bb3db2425678c21c161cde7b0da355f62fe19c80e25494');
CREATE TABLE members (cohort TEXT NOT NULL, patient TEXT NOT NULL, PRIMARY KEY (cohort, patient)) WITHOUT ROWID;
INSERT INTO "members" VALUES('cc740c0404dd22b284fe0523b80e9c5a0a0957d23e8a6ed9378eac41157140cd','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
INSERT INTO "members" VALUES('cc740c0404dd22b284fe0523b80e9c5a0a0957d23e8a6ed9378eac41157140cd','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb');
CREATE INDEX by_patient ON members (patient);
CREATE TRIGGER no_change BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER no_removal BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER no_leaving BEFORE DELETE ON members BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
COMMIT;
