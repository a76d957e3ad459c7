BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE comments (
	direction_id INTEGER NOT NULL, 
	text VARCHAR NOT NULL, 
	origin VARCHAR, 
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	created DATETIME NOT NULL, 
	deleted DATETIME, 
	CONSTRAINT pk_comments PRIMARY KEY (id), 
	CONSTRAINT fk_comments_direction_id FOREIGN KEY(direction_id) REFERENCES directions (id), 
	CONSTRAINT fk_comments_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "comments" VALUES(1,'sure?',NULL,1,2,'2026-11-27 22:58:44.603258',NULL);
CREATE TABLE descriptions (
	id INTEGER NOT NULL, 
	direction_id INTEGER NOT NULL, 
	text VARCHAR NOT NULL, 
	origin VARCHAR, 
	changed DATETIME NOT NULL, 
	user_id INTEGER NOT NULL, 
	created DATETIME NOT NULL, 
	deleted DATETIME, 
	CONSTRAINT pk_descriptions PRIMARY KEY (id), 
	CONSTRAINT fk_descriptions_direction_id FOREIGN KEY(direction_id) REFERENCES directions (id), 
	CONSTRAINT fk_descriptions_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "descriptions" VALUES(1,1,'nouns',NULL,'2026-11-27 22:58:44.571063',1,'2026-11-27 22:58:44.571719',NULL);
INSERT INTO "descriptions" VALUES(2,1,'plural',NULL,'2026-11-27 22:58:44.597182',2,'2026-11-27 22:58:44.597374',NULL);
CREATE TABLE directions (
	model VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	site VARCHAR NOT NULL, 
	width INTEGER NOT NULL, 
	artefact VARCHAR NOT NULL, 
	revision INTEGER NOT NULL, 
	origin VARCHAR, 
	changed DATETIME NOT NULL, 
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	created DATETIME NOT NULL, 
	deleted DATETIME, 
	CONSTRAINT pk_directions PRIMARY KEY (id), 
	CONSTRAINT fk_directions_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "directions" VALUES('f1','number','resid_pre.1',4,'44c3d9b5e04862a43b99af862d9b2e09f3de8a6ca2bf37f993b311a6462ff62f',1,NULL,'2026-11-27 22:58:44.586475',1,1,'2026-11-27 22:58:44.569794',NULL);
INSERT INTO "directions" VALUES('f1','gone','resid_pre.1',4,'44c3d9b5e04862a43b99af862d9b2e09f3de8a6ca2bf37f993b311a6462ff62f',0,NULL,'2026-11-27 22:58:44.607350',2,1,'2026-11-27 22:58:44.607796','2026-11-27 22:58:44.609770');
CREATE TABLE list_items (
	list_id INTEGER NOT NULL, 
	direction_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	CONSTRAINT pk_list_items PRIMARY KEY (list_id, direction_id), 
	CONSTRAINT fk_list_items_direction_id FOREIGN KEY(direction_id) REFERENCES directions (id), 
	CONSTRAINT fk_list_items_list_id FOREIGN KEY(list_id) REFERENCES lists (id)
);
INSERT INTO "list_items" VALUES(1,1,0);
CREATE TABLE lists (
	model VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	created DATETIME NOT NULL, 
	deleted DATETIME, 
	CONSTRAINT pk_lists PRIMARY KEY (id), 
	CONSTRAINT fk_lists_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "lists" VALUES('f1','list',1,1,'2026-11-27 22:58:44.611480',NULL);
CREATE TABLE revisions (
	id INTEGER NOT NULL, 
	direction_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	artefact VARCHAR NOT NULL, 
	created DATETIME NOT NULL, 
	CONSTRAINT pk_revisions PRIMARY KEY (id), 
	CONSTRAINT fk_revisions_direction_id FOREIGN KEY(direction_id) REFERENCES directions (id), 
	CONSTRAINT uq_revisions_direction_id_number UNIQUE (direction_id, number)
);
INSERT INTO "revisions" VALUES(1,1,0,'first','44c3d9b5e04862a43b99af862d9b2e09f3de8a6ca2bf37f993b311a6462ff62f','2026-11-27 22:58:44.570390');
INSERT INTO "revisions" VALUES(2,1,1,'number','44c3d9b5e04862a43b99af862d9b2e09f3de8a6ca2bf37f993b311a6462ff62f','2026-11-27 22:58:44.587430');
INSERT INTO "revisions" VALUES(3,2,0,'gone','44c3d9b5e04862a43b99af862d9b2e09f3de8a6ca2bf37f993b311a6462ff62f','2026-11-27 22:58:44.607960');
CREATE TABLE runs (
	model VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	settings JSON NOT NULL, 
	state VARCHAR NOT NULL, 
	artefact VARCHAR, 
	changed DATETIME NOT NULL, 
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	created DATETIME NOT NULL, 
	deleted DATETIME, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT fk_runs_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "runs" VALUES('f1','lens','{"a": [1]}','done',NULL,'2026-11-27 22:58:44.628377',1,1,'2026-11-27 22:58:44.625097',NULL);
CREATE TABLE sessions (
	token_hash VARCHAR NOT NULL, 
	user_id INTEGER NOT NULL, 
	by_password BOOLEAN NOT NULL, 
	created DATETIME NOT NULL, 
	expires DATETIME NOT NULL, 
	CONSTRAINT pk_sessions PRIMARY KEY (token_hash), 
	CONSTRAINT fk_sessions_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
CREATE TABLE tags (
	direction_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	CONSTRAINT pk_tags PRIMARY KEY (direction_id, name), 
	CONSTRAINT fk_tags_direction_id FOREIGN KEY(direction_id) REFERENCES directions (id)
);
INSERT INTO "tags" VALUES(1,'noun');
CREATE TABLE texts (
	name VARCHAR, 
	text VARCHAR NOT NULL, 
	pinned BOOLEAN NOT NULL, 
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	created DATETIME NOT NULL, 
	deleted DATETIME, 
	CONSTRAINT pk_texts PRIMARY KEY (id), 
	CONSTRAINT fk_texts_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "texts" VALUES('mine','Once upon',1,1,1,'2026-11-27 22:58:44.617878',NULL);
CREATE TABLE users (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	password VARCHAR, 
	created DATETIME NOT NULL, 
	CONSTRAINT pk_users PRIMARY KEY (id), 
	CONSTRAINT uq_users_name UNIQUE (name)
);
INSERT INTO "users" VALUES(1,'Ada','$argon2id$v=19$m=65536,t=3,p=4$59P8Xs9z8RjnwW+W/tecVQ$GcWjVVg+eLzudjxg397K7KFumYPvWdBRCjaKSW6QH9I','2026-11-27 22:58:44.529320');
INSERT INTO "users" VALUES(2,'Bob',NULL,'2026-11-27 22:58:44.546026');
CREATE TABLE votes (
	description_id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	value INTEGER NOT NULL, 
	CONSTRAINT pk_votes PRIMARY KEY (description_id, user_id), 
	CONSTRAINT ck_votes_value CHECK (value IN (-1, 0, 1)), 
	CONSTRAINT fk_votes_description_id FOREIGN KEY(description_id) REFERENCES descriptions (id), 
	CONSTRAINT fk_votes_user_id FOREIGN KEY(user_id) REFERENCES users (id)
);
INSERT INTO "votes" VALUES(2,2,1);
CREATE INDEX ix_directions_model ON directions (model);
CREATE INDEX ix_directions_site ON directions (site);
CREATE INDEX ix_directions_user_id ON directions (user_id);
CREATE UNIQUE INDEX uq_directions_name ON directions (user_id, model, name) WHERE deleted IS NULL;
CREATE INDEX ix_lists_model ON lists (model);
CREATE INDEX ix_lists_user_id ON lists (user_id);
CREATE UNIQUE INDEX uq_lists_name ON lists (user_id, model, name) WHERE deleted IS NULL;
CREATE INDEX ix_runs_model ON runs (model);
CREATE INDEX ix_runs_user_id ON runs (user_id);
CREATE INDEX ix_sessions_user_id ON sessions (user_id);
CREATE INDEX ix_texts_user_id ON texts (user_id);
CREATE UNIQUE INDEX uq_texts_name ON texts (user_id, name) WHERE deleted IS NULL;
CREATE INDEX ix_comments_direction_id ON comments (direction_id);
CREATE INDEX ix_comments_user_id ON comments (user_id);
CREATE INDEX ix_descriptions_direction_id ON descriptions (direction_id);
CREATE INDEX ix_descriptions_user_id ON descriptions (user_id);
CREATE INDEX ix_list_items_direction_id ON list_items (direction_id);
CREATE INDEX ix_revisions_direction_id ON revisions (direction_id);
CREATE INDEX ix_tags_name ON tags (name);
COMMIT;
