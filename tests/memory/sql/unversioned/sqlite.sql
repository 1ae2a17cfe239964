-- What monGARS made on sqlite before its schema had revisions.
CREATE TABLE conversations (
    id VARCHAR NOT NULL,
    user_id VARCHAR NOT NULL,
    source TEXT NOT NULL,
    consent BOOLEAN NOT NULL,
    created_at DATETIME NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX conversations_by_user ON conversations (user_id, id);
CREATE TABLE messages (
    id VARCHAR NOT NULL,
    conversation_id VARCHAR NOT NULL,
    position INTEGER NOT NULL,
    role VARCHAR NOT NULL,
    text TEXT NOT NULL,
    created_at DATETIME NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT messages_in_order UNIQUE (conversation_id, position),
    FOREIGN KEY(conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);
CREATE TABLE feedback (
    id VARCHAR NOT NULL,
    message_id VARCHAR NOT NULL,
    memory_id VARCHAR,
    name VARCHAR NOT NULL,
    value TEXT NOT NULL,
    rationale TEXT,
    created_at DATETIME NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(message_id) REFERENCES messages (id) ON DELETE CASCADE,
    FOREIGN KEY(memory_id) REFERENCES messages (id) ON DELETE CASCADE
);
CREATE INDEX feedback_by_memory ON feedback (memory_id);
CREATE INDEX feedback_by_message ON feedback (message_id);
CREATE TABLE profiles (
    user_id VARCHAR NOT NULL,
    names TEXT NOT NULL,
    emails TEXT NOT NULL,
    phones TEXT NOT NULL,
    PRIMARY KEY (user_id)
);

INSERT INTO conversations VALUES ('conv_1', 'anna', 'mongars', TRUE, '2026-01-02 03:04:05.678900');
INSERT INTO conversations VALUES ('conv_2', 'bob', 'import', FALSE, '2026-01-03 00:00:00.000000');
INSERT INTO messages VALUES ('msg_1', 'conv_1', 0, 'user', 'where is the key?', '2026-01-02 03:04:05.678900');
INSERT INTO messages VALUES ('msg_2', 'conv_1', 1, 'assistant', 'in the car', '2026-01-02 03:04:06.000000');
INSERT INTO messages VALUES ('msg_3', 'conv_2', 0, 'user', 'bonjour, été', '2026-01-03 00:00:00.000000');
INSERT INTO feedback VALUES ('fb_1', 'msg_2', NULL, 'thumbs', 'true', 'it was there', '2026-01-02 04:00:00.000000');
INSERT INTO feedback VALUES ('fb_2', 'msg_2', 'msg_1', 'retrieval', 'false', NULL, '2026-01-02 04:00:01.000000');
INSERT INTO profiles VALUES ('anna', '["Anna Moreau"]', '["anna@home.example"]', '[]');
