-- The published neighbours of each product.
CREATE VIEW similar_products AS
SELECT s.product_id, s.rank, s.neighbour_id, s.score, s.run_id, runs.model_version, runs.finished_at AS generated_at
FROM publications AS p
JOIN similar_products_all AS s ON s.run_id = p.run_id
JOIN runs ON runs.run_id = p.run_id
WHERE p.placement = 'similar'
