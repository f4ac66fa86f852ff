-- Users to recommend to, including those without purchases. Copy this file, insert your own table and columns, keep the
-- names after AS.
SELECT user_id,
       CAST(attributes AS TEXT) AS attributes    -- a JSON object: {"segment": "b2b"}
FROM users
ORDER BY user_id
