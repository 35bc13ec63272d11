PRAGMA user_version=5;
BEGIN TRANSACTION;
CREATE TABLE certificates (
	serial VARCHAR(40) NOT NULL, 
	site VARCHAR(64) NOT NULL, 
	public_key TEXT NOT NULL, 
	pem TEXT NOT NULL, 
	issued VARCHAR(32) NOT NULL, 
	expires FLOAT NOT NULL, 
	revoked VARCHAR(32) NOT NULL, 
	PRIMARY KEY (serial)
);
CREATE TABLE checkpoints (
	site VARCHAR(64) NOT NULL, 
	lines INTEGER NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	at VARCHAR(40) NOT NULL, 
	signature TEXT NOT NULL, 
	public_key TEXT NOT NULL, 
	rounds INTEGER NOT NULL, 
	head VARCHAR(64) NOT NULL, 
	PRIMARY KEY (site, lines, hash)
);
INSERT INTO "checkpoints" VALUES('a',3,'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','2026-01-01T00:00:00+00:00','0102','PEM of a',2,'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd');
CREATE TABLE commands (
	id INTEGER NOT NULL, 
	site VARCHAR(64) NOT NULL, 
	what VARCHAR(12) NOT NULL, 
	study VARCHAR(64) NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	state VARCHAR(12) NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "commands" VALUES(1,'a','wake','','2026-11-23T23:13:57.116+00:00','waiting');
CREATE TABLE contacts (
	site VARCHAR(64) NOT NULL, 
	connected BOOLEAN NOT NULL, 
	at FLOAT NOT NULL, 
	progressed FLOAT, 
	software VARCHAR(200) NOT NULL, 
	status TEXT NOT NULL, 
	PRIMARY KEY (site)
);
INSERT INTO "contacts" VALUES('a',1,1.5,NULL,'v1','{"x": 1}');
CREATE TABLE contributions (
	study VARCHAR(64) NOT NULL, 
	round INTEGER NOT NULL, 
	site VARCHAR(64) NOT NULL, 
	attempt INTEGER NOT NULL, 
	weight INTEGER NOT NULL, 
	norm FLOAT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	bytes_up INTEGER NOT NULL, 
	bytes_down INTEGER NOT NULL, 
	seconds FLOAT NOT NULL, 
	steps INTEGER NOT NULL, 
	scale FLOAT NOT NULL, 
	share FLOAT, 
	agreement FLOAT, 
	PRIMARY KEY (study, round, site), 
	FOREIGN KEY(study, round) REFERENCES rounds (study, round)
);
INSERT INTO "contributions" VALUES('662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56',1,'b-c',1,10,0.5,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',36,36,1.5,0,1.0,NULL,NULL);
INSERT INTO "contributions" VALUES('662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56',1,'a',1,10,0.5,'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',36,36,1.5,0,1.0,NULL,NULL);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at VARCHAR(32) NOT NULL, 
	study VARCHAR(64) NOT NULL, 
	round INTEGER NOT NULL, 
	site VARCHAR(64) NOT NULL, 
	what VARCHAR(24) NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,'2026-11-23T23:13:57.093+00:00','662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56',0,'a','joined','it said “hi”');
INSERT INTO "events" VALUES(2,'2026-11-23T23:13:57.097+00:00','662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56',0,'','committed','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee');
INSERT INTO "events" VALUES(3,'2026-11-23T23:13:57.104+00:00','662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56',1,'','committed','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff');
CREATE TABLE invitations (
	token VARCHAR(64) NOT NULL, 
	site VARCHAR(64) NOT NULL, 
	expires FLOAT NOT NULL, 
	approved BOOLEAN NOT NULL, 
	request TEXT NOT NULL, 
	rejected VARCHAR(32) NOT NULL, 
	served VARCHAR(32) NOT NULL, 
	made VARCHAR(32) NOT NULL, 
	PRIMARY KEY (token)
);
INSERT INTO "invitations" VALUES('3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0','b-c',10000000000.0,1,'','','','2026-11-23T23:13:57.112+00:00');
CREATE TABLE kept (
	study VARCHAR(64) NOT NULL, 
	site VARCHAR(64) NOT NULL, 
	task VARCHAR(40) NOT NULL, 
	model VARCHAR(12) NOT NULL, 
	PRIMARY KEY (study, site, task), 
	FOREIGN KEY(study) REFERENCES studies (digest)
);
INSERT INTO "kept" VALUES('662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56','a','mask','federated');
CREATE TABLE members (
	study VARCHAR(64) NOT NULL, 
	site VARCHAR(64) NOT NULL, 
	samples INTEGER NOT NULL, 
	counts TEXT NOT NULL, 
	schema TEXT NOT NULL, 
	software TEXT NOT NULL, 
	agrees BOOLEAN NOT NULL, 
	PRIMARY KEY (study, site), 
	FOREIGN KEY(study) REFERENCES studies (digest)
);
INSERT INTO "members" VALUES('662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56','a',5,'{"mask": 5}','[]','v1',1);
INSERT INTO "members" VALUES('662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56','b-c',2147483647,'{"mask": 6}','[]','v1',1);
CREATE TABLE metrics (
	study VARCHAR(64) NOT NULL, 
	round INTEGER NOT NULL, 
	site VARCHAR(64) NOT NULL, 
	task VARCHAR(40) NOT NULL, 
	split VARCHAR(8) NOT NULL, 
	stage VARCHAR(12) NOT NULL, 
	name VARCHAR(24) NOT NULL, 
	value FLOAT NOT NULL, 
	cases INTEGER NOT NULL, 
	low FLOAT, 
	high FLOAT, 
	PRIMARY KEY (study, round, site, task, split, stage, name)
);
INSERT INTO "metrics" VALUES('662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56',1,'a','mask','test','trained','dice',0.5,7,0.25,0.75);
CREATE TABLE pairs (
	study VARCHAR(64) NOT NULL, 
	round INTEGER NOT NULL, 
	site VARCHAR(64) NOT NULL, 
	other VARCHAR(64) NOT NULL, 
	cosine FLOAT NOT NULL, 
	magnitude FLOAT NOT NULL, 
	PRIMARY KEY (study, round, site, other), 
	FOREIGN KEY(study, round) REFERENCES rounds (study, round)
);
INSERT INTO "pairs" VALUES('662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56',1,'a','b-c',0.5,1.0);
CREATE TABLE rounds (
	study VARCHAR(64) NOT NULL, 
	round INTEGER NOT NULL, 
	state VARCHAR(64) NOT NULL, 
	encoder VARCHAR(64) NOT NULL, 
	seconds FLOAT NOT NULL, 
	committed VARCHAR(32) NOT NULL, 
	memory VARCHAR(64) NOT NULL, 
	variants TEXT NOT NULL, 
	step FLOAT, 
	drift FLOAT, 
	cancellation FLOAT, 
	orthogonal FLOAT, 
	effective FLOAT, 
	PRIMARY KEY (study, round), 
	FOREIGN KEY(study) REFERENCES studies (digest)
);
INSERT INTO "rounds" VALUES('662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56',0,'ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee',0.0,'2026-11-23T23:13:57.095+00:00','','{}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "rounds" VALUES('662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56',1,'tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',2.5,'2026-11-23T23:13:57.098+00:00','','{}',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE sites (
	name VARCHAR(64) NOT NULL, 
	public_key TEXT NOT NULL, 
	registered VARCHAR(32) NOT NULL, 
	revoked VARCHAR(32) NOT NULL, 
	PRIMARY KEY (name), 
	UNIQUE (public_key)
);
INSERT INTO "sites" VALUES('a','PEM of a','2026-11-23T23:13:57.110+00:00','');
CREATE TABLE studies (
	digest VARCHAR(64) NOT NULL, 
	id VARCHAR(64) NOT NULL, 
	text TEXT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	queued VARCHAR(32) NOT NULL, 
	PRIMARY KEY (digest)
);
INSERT INTO "studies" VALUES('662a2bd7124c8425212bd04973adb10e0d9aa8043bc2abd870b21e9600393b56','toy','{"aggregation":{"beta1":0.9,"beta2":0.99,"c":0.4,"clip":3.0,"clusters":2,"faulty":1,"largest_share":1.0,"optimiser":"none","rate":1.0,"rule":"mean","task_exponent":0.5,"tau":0.001,"weighting":"samples"},"balancer":{"alpha":1.5,"c":0.4,"decay":0.9,"kind":"equal","rate":0.025,"space":"features","temperature":2.0},"branches":{"attention":"none","decoder":"residual","dropout":0.0,"hidden":64},"encoder":{"blocks":[1,1],"filters":4,"groups":4,"kind":"segres","norm":"group","start":"seed"},"evaluation":{"every":1,"resamples":0,"splits":["val","test"]},"id":"toy","image":{"channels":1,"intensity":"minmax","size":[8,8],"spacing":null,"window":null},"participation":{"deadline_seconds":20.0,"longest_seconds":21600.0,"quorum":2,"rejoin_seconds":5.0,"sample":1.0,"stall_seconds":300.0,"task_quorum":{}},"personal":{"alone":true,"ditto":0.0},"rounds":3,"seed":0,"sharing":{"branches":"site","norm_affine":"auto","norm_statistics":"site","private_encoder":false},"side":{},"tasks":{"grade":{"column":null,"group":null,"kind":"binary","pooling":"mean","positive_weight":1.0,"side":[],"weight":1.0},"mask":{"classes":["foreground"],"column":null,"ignore":null,"kind":"segmentation","loss":"dice_ce","side":[],"surface":null,"weight":1.0}},"topology":{"cascade":[],"interact":[],"kind":"parallel","unit":"cross_stitch"},"training":{"accumulate":1,"augmentation":"light","batch":8,"branch_epochs":1,"branch_learning_rate":0.002,"contrast":0.0,"contrast_temperature":0.5,"empty_mask":"smooth","epochs":1,"final_epochs":3,"final_parts":"branches","gradient_clip":1.0,"join_epochs":2,"learning_rate":0.001,"momentum":0.9,"optimiser":"adamw","patience":0,"proximal":0.0,"rate_schedule":"constant","schedule":"fedper","steps":0,"warmup_rounds":0,"weight_decay":0.0001},"wire":{"codec":"float32","update_norm":1000.0}}','stopped','','2026-11-23T23:13:57.087+00:00');
COMMIT;
