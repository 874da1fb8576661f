CREATE TABLE counts (
    word  text PRIMARY KEY,
    times bigint NOT NULL
);
