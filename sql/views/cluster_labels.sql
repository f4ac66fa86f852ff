-- The published clusters with their labels.
CREATE VIEW cluster_labels AS
SELECT c.cluster_id, c.label, c.size, c.terms, c.run_id, runs.model_version, runs.finished_at AS generated_at
FROM publications AS p
JOIN clusters_all AS c ON c.run_id = p.run_id
JOIN runs ON runs.run_id = p.run_id
WHERE p.placement = 'clusters'
