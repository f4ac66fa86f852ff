-- Published recommendations, one row per user and rank. For users without rows, read user_id = '__default__'.
CREATE VIEW recommendations AS
SELECT r.placement, r.user_id, r.rank, r.product_id, r.score, r.reason, r.reason_product_id,
       r.run_id, runs.model_version, runs.finished_at AS generated_at
FROM publications AS p
JOIN recommendations_all AS r ON r.run_id = p.run_id AND r.placement = p.placement
JOIN runs ON runs.run_id = p.run_id
