// Starts Swagger UI on this instance's own document.
SwaggerUIBundle({ url: "/api/openapi.json", dom_id: "#ui", deepLinking: true, docExpansion: "none", defaultModelsExpandDepth: 0, tryItOutEnabled: true });
