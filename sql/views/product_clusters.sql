-- The published cluster of each product, with its label.
CREATE VIEW product_clusters AS
SELECT m.product_id, m.cluster_id, c.label, m.distance, m.run_id, runs.model_version, runs.finished_at AS generated_at
FROM publications AS p
JOIN cluster_members_all AS m ON m.run_id = p.run_id
JOIN clusters_all AS c ON c.run_id = m.run_id AND c.cluster_id = m.cluster_id
JOIN runs ON runs.run_id = p.run_id
WHERE p.placement = 'clusters'
