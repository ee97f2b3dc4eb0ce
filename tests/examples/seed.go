package main

import (
	"bytes"
	"encoding/json"
	"net/http"
)

const (
	apiKey  = "your-api-key"
	userID  = "user123"
	baseURL = "https://your-chatapi.com"
)

func sendMessage(roomID, content string) error {
	data := map[string]string{"content": content}
	jsonData, _ := json.Marshal(data)

	req, _ := http.NewRequest("POST",
		baseURL+"/rooms/"+roomID+"/messages",
		bytes.NewBuffer(jsonData))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-API-Key", apiKey)
	req.Header.Set("X-User-Id", userID)

	client := &http.Client{}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return nil
}
